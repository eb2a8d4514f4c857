"""Starts fleets of workers by the engines that place them: SSH, Slurm and Ray."""
