"""Readers of public annotation formats: COCO, YOLO, Pascal VOC, labelme."""
