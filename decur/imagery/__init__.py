"""Images as arrays: reading raster files, band scaling, depth, HHA and augmentation."""
