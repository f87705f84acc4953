"""The rehearsal behind `failsoft demo`: real sockets, real faults, guarded calls that live through them.

`server` runs in another process and `process` owns it; `feed` and `quotes` are the guarded clients; `faults`
says what is broken and how; `scenario` breaks it; `report` and `screens` tell what happened.
"""
