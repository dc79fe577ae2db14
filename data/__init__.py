"""Text -> sentences -> concept store -> batches."""
