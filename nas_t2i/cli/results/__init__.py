"""``nas-t2i results``: one file a command or a few that belong together."""
