"""Static files, catalogues, templates."""
