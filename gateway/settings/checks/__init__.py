"""What is wrong, or doubtful, between several options of the core, one file a table or a danger.

A check that is about an option of a feature is in the folder of that feature.
Nothing here changes a setting, and no message repeats a value.
"""
