"""What happens beside the steps of a run. Hooks have the arguments of Lightning's `Callback`."""
