"""Reports: one page, table or list about run directories, studies or records. Views over the files; nothing is kept."""
