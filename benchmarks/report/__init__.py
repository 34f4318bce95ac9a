"""The report of the benchmarks: results in, `README.md` and plots out; no number is typed by hand."""
