"""Small tools without science: argument checks, whole files, devices, signals, progress."""
