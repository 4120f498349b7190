"""What is looked at while an attempt trains, and after."""
