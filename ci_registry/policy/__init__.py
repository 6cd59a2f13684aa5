"""What decides: policy and waivers are read, findings and gaps are judged, every rule is explained."""
