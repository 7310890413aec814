//! The losses: Gram matrices, content, style, total variation, and the perceptual loss made of them.
