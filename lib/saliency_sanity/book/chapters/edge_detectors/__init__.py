"""The chapter on edge detectors: maps against the edges of their pictures."""
