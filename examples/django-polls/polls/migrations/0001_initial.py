from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = [
        migrations.CreateModel(
            name="Question",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(max_length=200)),
                ("asked", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["-asked"]},
        ),
        migrations.CreateModel(
            name="Choice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(max_length=200)),
                ("votes", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "question",
                    models.ForeignKey(on_delete=models.CASCADE, related_name="choices", to="polls.question"),
                ),
            ],
            options={"ordering": ["id"]},
        ),
    ]
