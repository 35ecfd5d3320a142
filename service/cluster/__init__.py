"""Scoring of archives on a Ray cluster; needs the extra `cluster`."""
