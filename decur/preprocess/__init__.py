"""Raw files to arrays: seasons, crops, HHA, band scaling and statistics, as pure functions."""
