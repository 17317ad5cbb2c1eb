"""Where contents came from, whom they can be shown to, and what a call may do with them."""
