"""Jobs over many radiographs: prepare records, segment."""
