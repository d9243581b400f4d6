"""What others wrote: how it is opened, read, kept secret and shown.

One way for each: `regular_files` opens, `json_text` reads, `redact` hides secrets, `show` makes
text fit for a terminal, a Markdown page or a spreadsheet.
"""
