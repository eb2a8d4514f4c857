"""A simulated cluster: the real coordinator and worker cores, a fake clock and a network that fails, from one seed."""
