from django.db import models


class Question(models.Model):
    text = models.CharField(max_length=200)
    asked = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-asked"]

    def __str__(self):
        return self.text


class Choice(models.Model):
    question = models.ForeignKey(Question, models.CASCADE, related_name="choices")
    text = models.CharField(max_length=200)
    votes = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return self.text
