"""JAX arrays in the functional API; nothing has to be imported from here for that.

Where JAX is imported, dropgemm.matmul and the masks take its arrays on the CPU and give new ones.
They run at once, on values: jit, grad and vmap cannot go through them.
"""
