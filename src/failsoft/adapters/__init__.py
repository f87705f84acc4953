"""Where integrations already pass: transports, middleware and adapters of clients, each imported by its own name.

Nothing here is imported with failsoft, and no room here imports a client before the user has asked for that client's.
"""
