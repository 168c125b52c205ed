from django.db.models import F
from django.shortcuts import get_object_or_404, redirect, render

from .forms import VoteForm
from .models import Question


def index(request):
    return render(request, "polls/index.html", {"questions": Question.objects.all()})


def question(request, pk):
    question = get_object_or_404(Question, pk=pk)
    form = VoteForm(question, request.POST or None)
    if form.is_valid():
        choice = form.cleaned_data["choice"]
        choice.votes = F("votes") + 1
        choice.save()
        return redirect("question", pk=pk)
    return render(request, "polls/question.html", {"question": question, "form": form})
