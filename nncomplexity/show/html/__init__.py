"""Results as HTML: pictures in SVG, a page in one file, and HTML for notebooks."""
