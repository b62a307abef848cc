"""Features of images, beside self-supervised methods and autoencoders."""
