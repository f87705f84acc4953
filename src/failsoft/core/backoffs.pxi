# Owns Backoff: delays before retries, from a stream of random numbers of its own.

_JITTERS = {"none": FS_JITTER_NONE, "full": FS_JITTER_FULL, "equal": FS_JITTER_EQUAL,
            "decorrelated": FS_JITTER_DECORRELATED}


cdef class Backoff:
    """Delays before retries: exponential, capped, jittered."""

    def __cinit__(self, double initial=0.5, double maximum=10.0, double multiplier=2.0, jitter="full", seed=None):
        if not 0.0 <= initial <= 1e9:
            raise ValueError(f"initial must be a number of seconds from 0 to 1e9, got {initial!r}")
        if not initial <= maximum <= 1e9:
            raise ValueError(f"maximum must be a number of seconds from initial ({initial!r}) to 1e9, got {maximum!r}")
        if not 1.0 <= multiplier <= 1e6:
            raise ValueError(f"multiplier must be a number from 1 to 1e6, got {multiplier!r}")
        if jitter not in _JITTERS:
            raise ValueError(f"jitter must be one of {', '.join(_JITTERS)}, got {jitter!r}")
        fs_backoff_init(&self.backoff, to_ns(initial), to_ns(maximum), multiplier, _JITTERS[jitter])
        if seed is None:
            fs_rng_seed_fresh(&self.rng)
        else:
            fs_rng_seed(&self.rng, <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF))

    def __init__(self, initial=0.5, maximum=10.0, multiplier=2.0, jitter="full", seed=None):
        pass

    @cython.binding(False)
    def delay(self, long long attempt, double previous=0.0):
        if attempt < 0:
            raise ValueError(f"attempt must be 0 or more, got {attempt}")
        if not 0.0 <= previous:
            raise ValueError(f"previous must be a number of seconds, 0 or more, got {previous!r}")
        fs_rng_refresh(&self.rng)
        return <double>fs_backoff_delay(&self.backoff, <uint64_t>attempt, to_ns(previous), &self.rng) / SECOND
