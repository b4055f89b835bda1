"""`lsm bench`: what mapping costs on this machine."""
