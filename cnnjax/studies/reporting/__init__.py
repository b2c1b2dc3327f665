"""Reports of the findings: Markdown tables, pictures, and an HTML page."""
