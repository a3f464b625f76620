"""Drawing: boxes on pictures with PIL, and the common look of charts with Matplotlib."""
