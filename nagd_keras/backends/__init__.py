"""What differs between the backends that Keras trains with: one class for each."""
