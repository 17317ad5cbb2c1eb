"""The stations of the door: each decides one thing about an effect, before or after it is made."""
