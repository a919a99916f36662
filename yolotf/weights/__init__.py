"""The `.weights` file: what its bytes are, its segments, and the plan that moves them."""
