"""Values of the OCI image and distribution specifications: digests, references, descriptors, manifests.

Pure: bytes and text in, values out. The specification is image-spec 1.1 and distribution-spec 1.1.
"""
