"""What runs inside a sandbox for Corral. Standard library only; imports nothing around it.

The folder is granted read-only and run as ``python -I -S FOLDER/__main__.py NAME``, so it starts in
milliseconds and sees nothing of Corral's own code.
"""
