"""What a trial is: whole runs, what they are worth, and when they are not worth going on."""
