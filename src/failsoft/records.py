"""Frozen records: what `dataclasses` gives with `frozen=True, slots=True`, without what it imports.

`dataclasses` loads `inspect`, `ast`, `re` and compiles methods for each class, which would be most of what importing
failsoft costs. Fields are annotated as there, `_: KW_ONLY` included, and type checkers take a Record for a dataclass.
Differences: a default must be immutable, and copying with changes is `replace(record, field=value)` here
(`copy.replace` from Python 3.13 on).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import KW_ONLY as KW_ONLY
    from typing import Any, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    class KW_ONLY:
        """The fields after `_: KW_ONLY` are given by name only."""

    def dataclass_transform(**_options: object):
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class _RecordType(type):
    """Makes slots of the annotated fields, and keeps their defaults aside."""

    _fields: tuple[str, ...]
    _setters: tuple[Any, ...]
    _defaults: dict[str, Any]
    _positional: int

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> _RecordType:
        declared = list(space.get("__annotations__", {}))
        positional = declared.index("_") if "_" in declared else len(declared)
        fields = tuple(field for field in declared if field != "_")
        defaults = {field: space.pop(field) for field in fields if field in space}
        cls = super().__new__(mcs, name, bases, {**space, "__slots__": fields, "__match_args__": fields[:positional]})
        cls._fields, cls._defaults, cls._positional = fields, defaults, positional
        cls._setters = tuple(cls.__dict__[field].__set__ for field in fields)
        return cls

    @property
    def __signature__(cls) -> Any:
        from inspect import Parameter, Signature

        kinds = [Parameter.POSITIONAL_OR_KEYWORD if at < cls._positional else Parameter.KEYWORD_ONLY
                 for at in range(len(cls._fields))]  # fmt: skip
        default = [cls._defaults.get(field, Parameter.empty) for field in cls._fields]
        return Signature([Parameter(f, k, default=d) for f, k, d in zip(cls._fields, kinds, default, strict=True)])


class Record(metaclass=_RecordType):
    """A frozen value with named fields, equal to another of its class with equal fields."""

    if not TYPE_CHECKING:  # checkers make the signature from the fields

        def __init__(self, *args, **kwargs):
            cls = type(self)
            if not kwargs and len(args) == len(cls._fields) == cls._positional:  # as readings of many are made
                for put, value in zip(cls._setters, args, strict=True):
                    put(self, value)
                self.__post_init__()
                return
            if len(args) > cls._positional:
                raise TypeError(f"{cls.__name__} takes {cls._positional} positional arguments, got {len(args)}")
            given = dict(zip(cls._fields, args, strict=False))
            for field, value in kwargs.items():
                if field in given:
                    raise TypeError(f"{cls.__name__} got two values for {field!r}")
                if field not in cls._fields:
                    raise TypeError(f"{cls.__name__} has no field {field!r}; it has {', '.join(cls._fields)}")
                given[field] = value
            missing = [field for field in cls._fields if field not in given and field not in cls._defaults]
            if missing:
                raise TypeError(f"{cls.__name__} needs {', '.join(missing)}")
            for field in cls._fields:
                object.__setattr__(self, field, given[field] if field in given else cls._defaults[field])
            self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields, and settle them by `object.__setattr__`; for subclasses that want to."""

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {field!r}")

    def __delattr__(self, field: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {field!r}")

    def __eq__(self, other: object) -> bool:
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(values(self))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={getattr(self, field)!r}" for field in field_names(type(self)))
        return f"{type(self).__name__}({fields})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from .report.cards import card

        return card(self)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), values(self))

    def __replace__(self: R, /, **changes: Any) -> R:
        return replace(self, **changes)


def field_names(cls: type) -> tuple[str, ...]:
    """The fields of a Record class, in order."""
    names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    return names


def values(record: Any) -> tuple[Any, ...]:
    """The values of a record's fields, in order."""
    return tuple(getattr(record, field) for field in field_names(type(record)))


def replace(record: R, **changes: Any) -> R:
    """A copy with other values for some fields, checked like any new record."""
    return type(record)(**{**dict(zip(field_names(type(record)), values(record), strict=True)), **changes})


def _restore(cls: type[R], fields: tuple[Any, ...]) -> R:
    return cls(**dict(zip(field_names(cls), fields, strict=True)))
