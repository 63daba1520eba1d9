"""Cameras watched for prompts: histories, cut-offs, alarms."""

from wordsight.watching.watcher import Camera, History, Prompts, camera_name, watch

__all__ = ["Camera", "History", "Prompts", "camera_name", "watch"]
