"""What TensorBoard shows of an attempt beside what Keras's own callback writes."""
