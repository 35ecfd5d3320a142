"""Transcripts of other programs: files and documents in their formats, read as segments of speech.

`formats` tells the formats apart, a module for each family reads them, `segments` makes utterances.
"""
