"""Findings written down: tables in Markdown, pictures, and a page of HTML."""
