from django import forms


class VoteForm(forms.Form):
    choice = forms.ModelChoiceField(queryset=None, widget=forms.RadioSelect, empty_label=None)

    def __init__(self, question, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["choice"].queryset = question.choices.all()
