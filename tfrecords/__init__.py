"""Records of prepared hand radiographs: the schema, the writer, the reader and the check of a record folder."""
