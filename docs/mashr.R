# Multivariate adaptive shrinkage of daywise effects: Rscript mashr.R FOLDER, where FOLDER is the output folder of fit-hierarchy.
# Install the packages once: install.packages(c("ashr", "mashr"))

arguments <- commandArgs(trailingOnly = TRUE)
folder <- if (length(arguments) > 0) arguments[1] else "results/demo/fit"

# 1. Read the table: genes in rows, days in columns.
table <- read.csv(file.path(folder, "gene_daywise_for_mash.csv"), check.names = FALSE)
days <- sub("^betahat_", "", grep("^betahat_", names(table), value = TRUE))
Bhat <- as.matrix(table[paste0("betahat_", days)])
Shat <- as.matrix(table[paste0("se_", days)])
dimnames(Bhat) <- dimnames(Shat) <- list(table$gene, days)
missing <- is.na(Bhat) # no cell carries a guide of the gene on that day
stopifnot(ncol(Bhat) >= 2, all(missing == is.na(Shat)), all(Shat[!missing] > 0), !anyDuplicated(table$gene))

# 2. Correlation of the errors between days, one matrix for each gene, from the covariances that the fit has written.
entry <- function(name) { # one array of an .npz file: a ZIP archive of arrays in the format of NumPy
  connection <- unz(file.path(folder, "theta_covariance.npz"), paste0(name, ".npy"), open = "rb")
  on.exit(close(connection))
  size <- readBin(connection, "raw", 10) # a magic number, the version and the length of the header
  header <- rawToChar(readBin(connection, "raw", as.integer(size[9]) + 256 * as.integer(size[10])))
  shape <- as.integer(strsplit(gsub("[^0-9,]", "", sub(".*'shape': \\(([^)]*)\\).*", "\\1", header)), ",")[[1]])
  type <- sub(".*'descr': '([^']*)'.*", "\\1", header)
  if (type == "<f8") {
    return(aperm(array(readBin(connection, "double", prod(shape), size = 8, endian = "little"), rev(shape)))) # NumPy stores rows first
  }
  width <- as.integer(sub("<U", "", type)) # text: a number of 4 bytes for each character, padded with zeros
  codes <- matrix(readBin(connection, "integer", width * prod(shape), size = 4, endian = "little"), width)
  apply(codes, 2, function(own) intToUtf8(own[own > 0]))
}
covariance <- entry("covariance") # genes x (fates * days) x (fates * days), fate by fate
contrast <- entry("contrast") # weights of the fates in the contrast of the table
stopifnot(identical(entry("genes"), as.character(table$gene)), dim(covariance)[2] == length(contrast) * length(days))
to_days <- kronecker(t(contrast), diag(length(days)))
V <- array(diag(length(days)), c(length(days), length(days), nrow(table)))
for (gene in seq_len(nrow(table))) {
  own <- to_days %*% ifelse(is.na(covariance[gene, , ]), 0, covariance[gene, , ]) %*% t(to_days)
  seen <- !missing[gene, ]
  V[seen, seen, gene] <- cov2cor(own[seen, seen, drop = FALSE])
}

# 3. Covariance matrices of the effects: canonical, and data-driven from the strong effects.
suppressPackageStartupMessages({
  library(ashr)
  library(mashr)
})
data <- mash_set_data(Bhat, Shat, V = V)
U <- cov_canonical(data)
strong <- get_significant_results(mash_1by1(data), 0.05)
if (length(strong) > 2 * length(days)) { # otherwise too few to estimate covariances
  U.pca <- cov_pca(data, npc = min(5, length(days)), subset = strong)
  U <- c(U, cov_ed(data, U.pca, subset = strong))
}

# 4. Fit.
fitted <- mash(data, U)
message("log-likelihood ", format(get_loglik(fitted), digits = 10))
message(length(get_significant_results(fitted)), " genes with a local false sign rate below 0.05 on some day")

# 5. Write the results to the same folder.
named <- function(values, prefix) {
  values <- as.data.frame(values)
  names(values) <- paste0(prefix, "_", days)
  values
}
result <- cbind(
  gene = rownames(Bhat),
  named(get_pm(fitted), "mash_mean"),
  named(get_psd(fitted), "mash_sd"),
  named(get_lfsr(fitted), "lfsr")
)
write.csv(result, file.path(folder, "gene_daywise_mash.csv"), row.names = FALSE)
