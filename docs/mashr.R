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
stopifnot(ncol(Bhat) >= 2, all(is.finite(Bhat)), all(Shat > 0), !anyDuplicated(table$gene))

# 2. Correlation of the errors between days, see "Correlated errors" below. Without the file, errors are assumed to be independent.
V <- diag(length(days))
correlation <- file.path(folder, "day_correlation.csv")
if (file.exists(correlation)) {
  V <- unname(as.matrix(read.csv(correlation, row.names = 1, check.names = FALSE)))
  stopifnot(nrow(V) == length(days), isSymmetric(V), all(eigen(V, only.values = TRUE)$values > 0))
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
