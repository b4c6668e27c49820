"""Secure aggregation: the server learns the sum of the sites' vectors and no single one.

Bonawitz et al. 2017 (CCS), section 4 and figure 4, over the complete graph of a round's sites; the
sparse graph of Bell et al. 2020 (CCS) pays above some hundred sites and is left out. Each round
has new keys and four steps; a site may drop out before, between and after any of them:

0. every site advertises two public keys (:meth:`.site.Advertised.begin`);
1. it gets everybody's, and deals encrypted shares of its masking key and of its personal seed
   (:meth:`.site.Advertised.share`);
2. it gets the shares dealt to it, and sends its vector under all masks
   (:meth:`.site.Shared.mask`);
3. it learns who survived, and reveals for each site one of the two shares
   (:meth:`.site.Masked.unmask`).

Against a server that follows the protocol, and against one that lies about who dropped out: of
each secret it needs shares of more than half of the sites, and each site gives it a share of one
of another site's two secrets. A server that hands out public keys of its own making in a site's
name is not stopped; that needs a directory of signed keys. Nor is one that takes the sum of one
round twice, over other survivors, and looks at the difference.
"""
