"""Results as pages: pictures in SVG, one self-contained page, and what a notebook shows."""
