"""Find the hand: landmarks, pose, gate, and interactive correction."""
