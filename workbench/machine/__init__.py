"""What this computer offers: memory, devices, processes, folders."""
