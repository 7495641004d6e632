"""Read images as arrays: raster files, band scaling, depth, HHA and augmentation."""
