"""Everything with weights: registry, hub, runtime, CLIP, Mask R-CNN."""
