"""A library at a URL: kept in object storage, worked on in a replica on this machine.

In the bucket lie::

    library.json         the record, and the files of the version in view: name, size, digest, key
    views.lance/...      the table, as Lance writes it: other programs read it where it is
    blobs/DIGEST-NAME    every file that changes under its name, by what it holds
    lease.json           who writes, and until when

Objects that ``library.json`` names never change. A writer commits to a draft on its own disk, puts
the new objects, and puts ``library.json`` last, on the condition that it is still the one that the
draft began from. So a crash between two puts leaves objects that nothing names, and readers see one
version or the other. Only then the table's manifests get their own names too, for other programs.

A reader follows ``library.json``: it fetches the files that it lacks into a replica in the user's
cache, which is a library's directory like any other, and the code for directories reads it.
"""
