"""What was used and what it cost: sums by minute, hour and day, and how long they are kept."""
