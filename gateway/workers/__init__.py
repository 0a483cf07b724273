"""Several processes that are one gateway: ``[coap] workers`` above 1, so that every core counts.

A *supervisor* binds the sockets, starts the workers, and speaks for all of them at the control
socket. A *worker* is a whole gateway: sockets, associations, intake, outbox, deliveries. The kernel
spreads peers over the workers' sockets (``SO_REUSEPORT``), so an association and its exchanges live
in one worker.

A *patient* lives in one worker too, the *home*, which follows from the pseudonym alone. Triage,
content keys, repeated messages, alarms and the outbox are per patient, so a device may change its
address, or a patient wear two devices, and no two workers ever disagree. What comes in by another
worker's socket is handed over a *link*, and acknowledged when the home has it on disk.

With one worker nothing of this runs.
"""
